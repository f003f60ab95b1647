"""The commands ``emomc-pretrain``, ``emomc-search`` and ``emomc-export``."""
