"""Tags of a program's run while its process is alive; other than those of our own runs, which a program may use."""

HEARTBEAT_TAG = "durable.heartbeat"
OWNER_TAG = "durable.owner"
LIVE_TAGS = (HEARTBEAT_TAG, OWNER_TAG)
