"""The Arm ARM as data and pure functions. Imports nothing of Unicorn, holds no state."""
