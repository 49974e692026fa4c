"""Names of Redis keys. Braces are hash tags: what one script touches lies on one slot."""


def hot_context(conversation_id: str) -> str:
    """Hash: zero-padded message_seq -> StoredMessage as JSON; the field ``complete`` marks a full context.

    Written whole by the prompt stage on a miss, extended by the sink only while it exists.
    """
    return f"ts:ctx:{{{conversation_id}}}"


def quota_bucket(tenant_id: str, subject: str) -> str:
    """Hash: what one subject (``user:<id>``, ``key:<id>`` or ``tenant``) of a tenant has used of each quota."""
    return f"ts:quota:{{{tenant_id}}}:{subject}"


def quota_reservation(tenant_id: str, turn_id: str) -> str:
    """Hash: what a turn was answered by the limiter, for when its record comes again."""
    return f"ts:quota:{{{tenant_id}}}:turn:{turn_id}"


def quota_running(tenant_id: str, user_id: str) -> str:
    """Sorted set: a user's turns that were admitted and not settled, by the millisecond that takes them for lost."""
    return f"ts:quota:{{{tenant_id}}}:running:{user_id}"


def quota_held(tenant_id: str, user_id: str) -> str:
    """Hash: what each of a user's running turns has reserved, and since when."""
    return f"ts:quota:{{{tenant_id}}}:held:{user_id}"


def api_key(key_hash: str) -> str:
    """String: the account of an API key as JSON, a cache with a short life."""
    return f"ts:key:{key_hash}"
