"""What is read where, and which of the readers in ``fuzz_readers.py`` reads it damaged."""

from __future__ import annotations

READERS = {
    "emomc/candidates/evaluation_log.py:_parsed": ("log of the search", "log of another search"),
    "emomc/candidates/finetuned_weights.py:read_finetuned": ("fine-tuned weights",),
    "emomc/candidates/image_order.py:read_order": ("order of the images",),
    "emomc/cli/command.py:_section_text": ("settings",),
    "emomc/common/files.py:read_json": ("manifest of a library", "front"),
    "emomc/common/json_values.py:parse_json": ("manifest of a library", "front"),
    "emomc/common/schema.py:checked": ("manifest of a library", "settings"),
    "emomc/common/yaml_files.py:parse_yaml": ("hardware", "settings"),
    "emomc/common/yaml_files.py:read_yaml": ("hardware", "settings"),
    "emomc/data/class_order.py:_of_json": ("order of classes",),
    "emomc/fronts/front_file.py:read_front": ("front",),
    "emomc/hardware/accelergy.py:read_energies": ("energies of Accelergy",),
    "emomc/hardware/description.py:load_target": ("hardware", "table of measurements"),
    "emomc/hardware/measured_table.py:_parse": ("table of measurements",),
    "emomc/library/layer_input_store.py:_read": ("layer inputs",),
    "emomc/library/library.py:_tensors": ("weights of a level",),
    "emomc/library/library.py:check_file": ("weights of a level",),
    "emomc/library/manifest.py:read_manifest": ("manifest of a library",),
    "emomc/networks/weights.py:_read": ("weights of torch", "weights as safetensors"),
    "emomc/packed_file/network.py:metadata_of": ("metadata of a packed network",),
    "emomc/packed_file/reader.py:read_metadata": ("metadata of a packed network",),
    "emomc/pretraining/stages.py:front_of_checkpoints": ("front of checkpoints",),
    "emomc/runtime/checkpoint_io.py:check_checkpoint": ("checkpoint of a training",),
    "emomc/runtime/tensor_files.py:parse_tensors": ("weights of a level", "layer inputs"),
    "emomc/runtime/tensor_files.py:read_tensors": ("weights of a level", "fine-tuned weights"),
    "emomc/runtime/tensor_files.py:read_torch": ("weights of torch", "checkpoint of a training"),
    "emomc/search/finetuning.py:read_finetuned_point": ("fine-tuned point",),
    "emomc/search/run.py:read_settings": ("settings of a search",),
}
"""Function that reads a file -> the readers of ``fuzz_readers.py`` that call it."""

NO_FILES = {
    "emomc/export/running.py:_read_dense": "the file that was just written",
    "emomc/export/onnx_pixels.py:as_pixels": "the file that was just written",
    "emomc/runtime/journal.py:read": "what another process of this search wrote",
    "emomc/runtime/watch.py:_connect": "where the other processes of this run are",
}
"""Function that reads something else -> what that is."""
