"""How many tokens an image, a video or sound becomes, by the rules of the model's own processor.

One module for each kind of rule; `table.py` names the rule of each processor class.
"""
