"""Translation: walks, their combination, the TLB, maintenance. Guest faults are values."""
