"""The packed file: its layout, what it holds, its size, its writer and its reader."""
