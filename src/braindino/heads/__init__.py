"""Heads: something light, learned on top of a frozen encoder. One file each.

Contract of a head on features (`needs = "cls"`): the module defines a frozen dataclass `Fitted` with class
attributes `needs` and `kinds`, `state()` (name to array), and

- `fit(x, y, validation, *, kind, seed) -> Fitted`: `x` float64 (subject, feature), `y` (subject,) or, for survival,
  (subject, 2) = time, event; `validation = (x, y)` is for choosing strengths, never the test set;
  Class names are strings; outputs come in their sorted order;
- `from_state(state) -> Fitted`;
- `Fitted.predict(x) -> (subject, output)`: class probabilities, the regressed value, or one risk per subject
  (higher risk, earlier event).

`kinds` names the task kinds it serves. What is learned is arrays only: no pickle.
A dense head (`needs = "patch"`) is described in `decoder`.
"""
