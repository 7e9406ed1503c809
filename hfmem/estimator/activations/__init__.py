"""What a model holds beside its weights and cache while it runs or is trained."""
