"""The verbs, one file each; along the line: prepare, pretrain, encode, fit, predict, score, analyze, report."""
