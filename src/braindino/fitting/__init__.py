"""What heads share, and what stands around a head: ComBat before it, calibration, conformal and domain after it."""
