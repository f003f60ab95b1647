"""The package ``benchmarks`` is not installed: tests find it in the root of the checkout."""

import sys
from pathlib import Path

# At the end, so that the installed emomc comes before the folder of that name.
sys.path.append(str(Path(__file__).parents[2]))
