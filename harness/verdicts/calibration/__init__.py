"""Checks statistics and verdicts against worlds whose truth is known, through the functions that studies use: `make calibration`."""
