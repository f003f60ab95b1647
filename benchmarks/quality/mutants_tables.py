"""What the mutation test changes: the modules with their tests, the operators, and the survivors that cannot matter."""

from __future__ import annotations

TESTS = {
    "emomc/compression/pruning.py": ["emomc/compression/test_pruning.py"],
    "emomc/compression/quantization.py": ["emomc/compression/test_quantization.py"],
    "emomc/compression/quantizers.py": ["emomc/compression/test_quantization.py"],
    "emomc/compression/codings.py": ["emomc/compression/test_codings.py"],
    "emomc/compression/bit_packing.py": ["emomc/compression/test_codings.py"],
    "emomc/compression/streams.py": ["emomc/compression/test_codings.py"],
    "emomc/networks/folding.py": ["emomc/networks/test_folding.py"],
    "emomc/hardware/energy.py": ["emomc/hardware/test_cost.py", "emomc/hardware/test_reuse_counts.py"],
    "emomc/hardware/reuse_counts.py": ["emomc/hardware/test_reuse_counts.py", "emomc/hardware/test_cost.py"],
    "emomc/hardware/paper_counts.py": ["emomc/hardware/test_cost.py"],
    "emomc/hardware/traffic.py": [
        "emomc/hardware/test_traffic.py",
        "emomc/hardware/test_cost.py",
        "emomc/hardware/test_reuse_counts.py",
    ],
    "emomc/candidates/cost_model.py": ["emomc/candidates/test_cost_model.py"],
    "emomc/candidates/genotype.py": ["emomc/candidates/test_genotype.py"],
    "emomc/candidates/evaluation_log.py": ["emomc/candidates/test_evaluation_log.py"],
    "emomc/candidates/evaluator.py": ["emomc/candidates/test_evaluation.py"],
    "callbacks/trainer/early_rejection.py": ["emomc/candidates/test_evaluation.py"],
    "emomc/search/operators.py": ["emomc/search/test_operators.py"],
    "emomc/search/evolution.py": ["emomc/search/test_evolution.py", "emomc/search/test_operators.py"],
    "emomc/search/loop.py": ["emomc/search/test_loop.py"],
    "emomc/packed_file/reader.py": ["emomc/packed_file/test_packed.py"],
}
"""Module -> its tests, in the folder of tests; those that say most in the least time come first."""

# Each kind of thing is replaced by what is most like it: other replacements are noticed by the same tests, and sooner.
OPERATORS = [
    *["ReplaceBinaryOperator_Add_Sub", "ReplaceBinaryOperator_Sub_Add", "ReplaceBinaryOperator_Mul_Div"],
    *["ReplaceBinaryOperator_Div_Mul", "ReplaceBinaryOperator_FloorDiv_Mul", "ReplaceBinaryOperator_Mod_FloorDiv"],
    *["ReplaceBinaryOperator_Pow_Mul", "ReplaceBinaryOperator_LShift_RShift", "ReplaceBinaryOperator_RShift_LShift"],
    *["ReplaceBinaryOperator_BitOr_BitAnd", "ReplaceBinaryOperator_BitAnd_BitOr"],
    *["ReplaceBinaryOperator_BitXor_BitAnd"],
    *["ReplaceComparisonOperator_Lt_LtE", "ReplaceComparisonOperator_Lt_GtE"],
    *["ReplaceComparisonOperator_LtE_Lt", "ReplaceComparisonOperator_LtE_Gt"],
    *["ReplaceComparisonOperator_Gt_GtE", "ReplaceComparisonOperator_Gt_LtE"],
    *["ReplaceComparisonOperator_GtE_Gt", "ReplaceComparisonOperator_GtE_Lt"],
    *["ReplaceComparisonOperator_Eq_NotEq", "ReplaceComparisonOperator_NotEq_Eq"],
    *["ReplaceComparisonOperator_Is_IsNot", "ReplaceComparisonOperator_IsNot_Is"],
    *["ReplaceUnaryOperator_Delete_USub", "ReplaceUnaryOperator_Delete_Invert", "ReplaceUnaryOperator_Delete_Not"],
    *["AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd"],
    *["ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ExceptionReplacer", "NumberReplacer"],
    *["RemoveDecorator", "ZeroIterationForLoop"],
]
"""Names of cosmic-ray's operators."""

_MEMORY = "it bounds the memory taken at a time; results are the same"
REASONS = {
    ("emomc/compression/quantizers.py", "_TOGETHER = 262145"): _MEMORY,
    ("emomc/compression/quantizers.py", "_TOGETHER = 262143"): _MEMORY,
    (
        "emomc/compression/quantizers.py",
        "for some in fractions.split(max(1, _TOGETHER * (len(rows) * len(codes)))):",
    ): _MEMORY,
    (
        "emomc/compression/quantizers.py",
        "for some in fractions.split(max(2, _TOGETHER // (len(rows) * len(codes)))):",
    ): _MEMORY,
    (
        "emomc/compression/quantizers.py",
        "fractions = torch.arange(_CLIPS, -1, -1, device=device, dtype=torch.float64) / _CLIPS",
    ): "a clip of 0 is never better than the largest, and ties go to the largest",
    (
        "emomc/compression/streams.py",
        "kind = np.uint32 if width < 16 else np.uint64",
    ): "at 16 bits both types are wide enough",
    (
        "emomc/compression/streams.py",
        "kind = np.uint32 if width <= 15 else np.uint64",
    ): "at 16 bits both types are wide enough",
    (
        "emomc/search/operators.py",
        "steps = random_state.geometric(0.5, size=X.shape) / random_state.choice([-1, 1], size=X.shape)",
    ): "dividing by 1 or -1 is multiplying by it",
    (
        "emomc/search/loop.py",
        "earlier = max((entry.hypervolume for entry in history[:-patience]), default=-2.0)",
    ): "no hypervolume is below 0",
}
"""Module and a line of it after the change -> why the change cannot matter."""
