"""Networks looked at one by one, trained or not: their errors, features, and what lesions do."""
