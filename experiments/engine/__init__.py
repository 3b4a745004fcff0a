"""The engine: spec → stages → director ⇄ bridge ⇄ Ray, with the ledger as the durable truth."""
