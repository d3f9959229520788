"""May it happen, and on what terms? Pure: no files, no clock, no database; `now` is an argument.

schema (what may be written), yaml (text to plain values with positions), load (checks and the normal form), conditions (CEL),
evaluate (the decision), explain, change (narrowing or widening), decision_tests.
"""
