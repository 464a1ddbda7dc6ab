"""System registers, one class each, one field a line."""
