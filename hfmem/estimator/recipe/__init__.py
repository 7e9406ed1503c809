"""How a model is trained: optimizer, number formats, software, adapters. Values and tables; no formula of a step."""
