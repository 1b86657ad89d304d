"""How long one wait may take."""

# Seconds. A signal that comes when Python is about to wait interrupts nothing, and is heard only when it has waited:
# a Ctrl-C, or the word of pytest-timeout. So whoever waits longer looks up in between.
LONGEST = 0.25
