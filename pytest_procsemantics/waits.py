"""How long one may wait without looking up."""

# Seconds. A signal that comes when Python is about to wait interrupts nothing, and is heard only when it has waited:
# a Ctrl-C, or the word of pytest-timeout.
LOOK_UP = 0.25
