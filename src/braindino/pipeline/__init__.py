"""The verbs, one file each, in the order of the line: prepare, pretrain, encode, fit, predict, score, analyze, report."""
