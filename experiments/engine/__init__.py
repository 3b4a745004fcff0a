"""The engine: spec → stages → director ⇄ bridge ⇄ Ray, with the ledger as the durable truth."""

import os

# Ray reads its authentication mode when it is imported, so this stands before any module of the engine that does:
# token authentication is on, whatever the version's default; no usage statistics are sent.
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
