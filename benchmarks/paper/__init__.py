"""The paper's experiments: the settings of its published code against ours."""
