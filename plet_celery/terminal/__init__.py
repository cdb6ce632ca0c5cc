"""How runs look in a terminal, for the commands and for `TrackedResult`: safe text, times, signs, bars."""
