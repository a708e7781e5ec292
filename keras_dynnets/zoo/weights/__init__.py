"""Published weights: their records, where their files come from, and how a model gets them."""
