"""Sessions: opened by a login, extended by refresh tokens, looked up by every validation of an access token."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from chassis.errors import InvalidToken
from chassis.use_cases import Service, Transactions, reads, writes
from user_service import audit
from user_service.errors import InvalidCredentials, SessionNotFound, SessionRevoked
from user_service.security.access_tokens import TokenRefused, Tokens
from user_service.security.passwords import Passwords
from user_service.security.refresh_tokens import NotARefreshToken, RefreshToken
from user_service.security.throttling import Throttle
from user_service.usernames import username_key

if TYPE_CHECKING:
    from user_service.models import Session, User
    from user_service.repositories import Repositories
    from user_service.repositories.users import Credentials

GRACE = timedelta(seconds=10)
"""How long the refresh token that was just replaced still gives its successor: for a lost answer, or a second tab."""

MOST_LISTED = 100
"""Sessions that a list shows at most: a script that logs in each minute has thousands."""


@dataclass(frozen=True)
class Identity:
    """Whose token it is, in which session, and until when."""

    user: User
    session_id: int
    expires_at: datetime

    @property
    def user_id(self) -> int:
        return self.user.id


@dataclass(frozen=True)
class Grant:
    """An access token with how long it is valid, the refresh token that gets the next one, and whose they are."""

    user_id: int
    access_token: str
    lifetime: timedelta
    refresh_token: str


class Sessions(Service["Repositories"]):
    def __init__(
        self,
        transactions: Transactions[Repositories],
        passwords: Passwords,
        tokens: Tokens,
        successor_keys: Sequence[bytes],
        lifetime: timedelta,
        logins: Throttle,
        refreshes: Throttle,
    ) -> None:
        """
        :param successor_keys: what the successors of refresh tokens are derived with; the first makes new ones
        :param lifetime: of a session that is not refreshed; each refresh starts it again
        """
        super().__init__(transactions)
        self._passwords = passwords
        self._tokens = tokens
        self._successor_keys = successor_keys
        self._lifetime = lifetime
        self._logins = logins
        self._refreshes = refreshes

    async def log_in(self, username: str, password: str, user_agent: str | None, ip: str | None) -> Grant:
        """Open a session.

        Raises InvalidCredentials, after the same time, for an unknown name, a wrong password and a disabled account;
        TooManyAttempts, or PasswordsBusy.
        """
        account = username_key(username)
        await self._logins.admit(ip, account)
        while True:
            credentials = await self._find_credentials(username)
            verdict = await self._passwords.verify(password, credentials.password_hash)
            user_id = credentials.user_id
            if user_id is None or not verdict.matches or not credentials.is_active:
                # The name is not logged: people type passwords into the wrong field.
                audit.log("login refused", user_id=user_id, ip=ip)
                raise InvalidCredentials
            new_hash = await self._passwords.hash(password) if verdict.is_outdated else None
            token = await self._open(user_id, credentials.password_hash, new_hash, user_agent, ip)
            if token is not None:
                break
        await self._logins.forget(ip, account)
        audit.log("logged in", user_id=user_id, session_id=token.session_id, ip=ip)
        return self._grant(user_id, token)

    async def refresh(self, text: str, ip: str | None) -> Grant:
        """Replace a refresh token, and issue a new access token; raises SessionRevoked or TooManyAttempts.

        The token that was just replaced gets the same successor once more, for as long as GRACE. Reusing it later, or
        an older one, revokes the session: somebody has a copy.
        """
        try:
            token = RefreshToken.read(text)
        except NotARefreshToken:
            await self._refreshes.admit(ip)
            raise SessionRevoked from None
        # With the family, which can't be guessed: guesses at a session do not use up its owner's attempts.
        await self._refreshes.admit(ip, f"{token.session_id} {token.family_hash}")
        session, successor = await self._rotate(token)
        # Raised and logged after the commit: an exception inside the transaction would restore the revoked session.
        if session is not None and successor is None:
            audit.log("refresh token reused", user_id=session.user_id, session_id=session.id, ip=ip)
        if session is None or successor is None:
            raise SessionRevoked
        return self._grant(session.user_id, successor)

    async def identify(self, access_token: str) -> Identity:
        """Whose token it is at this moment; raises InvalidToken, with the reason as its detail."""
        now = datetime.now(UTC)
        try:
            claims = self._tokens.read(access_token, now)
        except TokenRefused as refusal:
            raise InvalidToken(str(refusal)) from None
        user = await self._find_user(claims.session_id, claims.user_id, now)
        if user is None:
            raise InvalidToken("The session of this token is over, or its account is deleted or disabled.")
        return Identity(user, claims.session_id, claims.expires_at)

    async def log_out(self, identity: Identity) -> None:
        """Revoke the session of this token."""
        await self._revoke(identity.session_id, identity.user_id)
        audit.log("logged out", user_id=identity.user_id, session_id=identity.session_id)

    async def log_out_everywhere(self, identity: Identity) -> None:
        """Revoke all sessions of the account."""
        await self._revoke_all(identity.user_id)
        audit.log("logged out everywhere", user_id=identity.user_id)

    @reads
    def list(self, repos: Repositories, identity: Identity) -> Sequence[Session]:
        """The account's active sessions, the newest first, up to MOST_LISTED."""
        return repos.sessions.of_user(identity.user_id, datetime.now(UTC), MOST_LISTED)

    async def revoke(self, identity: Identity, session_id: int) -> None:
        """Revoke one session of the account; raises SessionNotFound."""
        if not await self._revoke(session_id, identity.user_id):
            raise SessionNotFound
        audit.log("session ended", user_id=identity.user_id, session_id=session_id)

    @writes
    def purge(self, repos: Repositories, limit: int) -> int:
        """Delete up to `limit` sessions that have expired; how many there were."""
        return repos.sessions.delete_expired(datetime.now(UTC), limit)

    @reads
    def _find_credentials(self, repos: Repositories, username: str) -> Credentials:
        return repos.users.credentials(username)

    @reads
    def _find_user(self, repos: Repositories, session_id: int, user_id: int, now: datetime) -> User | None:
        return repos.sessions.find_user(session_id, user_id, now)

    @writes
    def _open(
        self,
        repos: Repositories,
        user_id: int,
        proven_hash: str | None,
        new_hash: str | None,
        user_agent: str | None,
        ip: str | None,
    ) -> RefreshToken | None:
        """The first refresh token of a new session; None if the account has changed since its password was proven."""
        user = repos.users.find(user_id, for_update=True)
        if user is None or not user.is_active or user.password_hash != proven_hash:
            return None
        if new_hash is not None:
            user.password_hash = new_hash
        now = datetime.now(UTC)
        session = repos.sessions.create(user_id, now, now + self._lifetime, user_agent, ip)
        # The token contains the session's id, which is known only now.
        token = RefreshToken.draw(session.id)
        session.family_hash, session.refresh_hash = token.family_hash, token.hash
        return token

    @writes
    def _rotate(self, repos: Repositories, token: RefreshToken) -> tuple[Session | None, RefreshToken | None]:
        """The session of the token and the token's successor; without a successor, the session is revoked."""
        session = repos.sessions.find(token.session_id, for_update=True)
        if session is None or not hmac.compare_digest(session.family_hash, token.family_hash):
            return None, None
        now = datetime.now(UTC)
        user = repos.users.find(session.user_id)
        if session.expires_at <= now or user is None or not user.is_active:
            return None, None
        successors = token.successors(self._successor_keys)
        if hmac.compare_digest(session.refresh_hash, token.hash):
            session.previous_hash, session.refresh_hash = token.hash, successors[0].hash
            session.refreshed_at = session.last_used_at = now
            session.expires_at = now + self._lifetime
            return session, successors[0]
        if token.hash == session.previous_hash and session.refreshed_at and now - session.refreshed_at <= GRACE:
            for successor in successors:
                if successor.hash == session.refresh_hash:
                    return session, successor
        repos.sessions.delete(session)
        return session, None

    @writes
    def _revoke(self, repos: Repositories, session_id: int, user_id: int) -> bool:
        return repos.sessions.revoke(session_id, user_id)

    @writes
    def _revoke_all(self, repos: Repositories, user_id: int) -> None:
        # Locked, so that two that do this at once do not wait for each other's rows.
        repos.users.find(user_id, for_update=True)
        repos.sessions.revoke_all(user_id)

    def _grant(self, user_id: int, token: RefreshToken) -> Grant:
        access_token = self._tokens.issue(user_id, token.session_id, datetime.now(UTC))
        return Grant(user_id, access_token, self._tokens.lifetime, token.write())
