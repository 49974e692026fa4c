"""The users of a tenant, for its admins."""

from collections.abc import Collection
from typing import Any

from producers.accounts import core
from producers.accounts.bodies import UserWanted, list_body, user_body
from producers.accounts.ports import AccountPorts, User, UserChange
from producers.http.refused import RequestRefused
from schemas.accounts import Account, AccountChanged, AccountRole
from schemas.errors import invalid_request


class TenantUsers:
    """Users of the asking admin's tenant. Every method raises RequestRefused and Retryable."""

    def __init__(self, ports: AccountPorts, plans: Collection[str]) -> None:
        self._ports = ports
        self._plans = frozenset(plans)

    async def list(self, account: Account, after: str | None, limit: int) -> dict[str, Any]:
        """Up to ``limit`` users behind the user id ``after``."""
        _require_admin(account)
        users = await self._ports.users.page(account.tenant_id, after, limit + 1)
        return list_body([user_body(user) for user in users[:limit]], has_more=len(users) > limit)

    async def change(self, account: Account, user_id: str, wanted: UserWanted) -> dict[str, Any]:
        """Change a user's plan and roles, or suspend them, which ends what they stream. The user as they are then."""
        _require_admin(account)
        if wanted.plan is not None and wanted.plan not in self._plans:
            raise RequestRefused(invalid_request("There is no such plan.", "plan", "invalid_value"))
        user = await self._ports.users.find(account.tenant_id, user_id)
        if user is None:
            raise RequestRefused(core.user_not_found())
        if user_id == account.user_id and _locks_out(wanted):
            raise RequestRefused(
                invalid_request("Admins cannot suspend or demote themselves.", code="last_resort", status=409)
            )
        change = UserChange(plan=wanted.plan, roles=wanted.roles, suspended=wanted.suspended)
        now_ms = self._ports.now_ms()
        await self._ports.users.change(account.tenant_id, user_id, change, now_ms)
        changed = await self._ports.users.find(account.tenant_id, user_id) or user
        await self._ports.changes.publish(user_changed(changed, now_ms))
        return user_body(changed)


def user_changed(user: User, now_ms: int) -> AccountChanged:
    """What is told of a user whose row has changed."""
    return AccountChanged(
        subject="user",
        subject_id=user.user_id,
        tenant_id=user.tenant_id,
        user_id=user.user_id,
        access_lost=user.suspended,
        reason="suspended" if user.suspended else "changed",
        changed_at_ms=now_ms,
    )


def _require_admin(account: Account) -> None:
    refusal = core.require_admin(account)
    if refusal is not None:
        raise RequestRefused(refusal)


def _locks_out(wanted: UserWanted) -> bool:
    return bool(wanted.suspended) or (wanted.roles is not None and AccountRole.ADMIN not in wanted.roles)
