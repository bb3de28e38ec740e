"""Sessions: opened by a login, kept going by refresh tokens, looked at by every validation of an access token."""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from chassis.database.purge import prune
from chassis.database.transactions import Unit
from chassis.errors import InvalidToken
from user_service import audit
from user_service.errors import InvalidCredentials, SessionNotFound, SessionRevoked
from user_service.models import Session, User
from user_service.models.sessions import LONGEST_ADDRESS, LONGEST_USER_AGENT
from user_service.models.users import username_key
from user_service.repositories import Repositories
from user_service.security.access_tokens import TokenRefused, Tokens
from user_service.security.passwords import Passwords
from user_service.security.refresh_tokens import NotARefreshToken, RefreshToken
from user_service.security.throttling import Throttle

GRACE = timedelta(seconds=10)
"""How long the refresh token that was just replaced still gives its successor: for a lost answer, or a second tab."""

MOST_LISTED = 100
"""Sessions that a list shows at most: a script that logs in each minute has thousands."""


@dataclass(frozen=True)
class Identity:
    """Whom a token stands for, in which session, and until when."""

    user: User
    session_id: int
    expires_at: datetime


@dataclass(frozen=True)
class Grant:
    """An access token with how long it is valid, the refresh token that gets the next one, and whose they are."""

    user_id: int
    access_token: str
    lifetime: timedelta
    refresh_token: str


class Sessions:
    def __init__(
        self,
        read: Unit[Repositories],
        write: Unit[Repositories],
        passwords: Passwords,
        tokens: Tokens,
        successor_keys: Sequence[bytes],
        lifetime: timedelta,
        logins: Throttle,
        refreshes: Throttle,
    ) -> None:
        """
        :param successor_keys: what the successors of refresh tokens are derived with; the first makes new ones
        :param lifetime: of a session that is not refreshed; each refresh starts it anew
        """
        self._read = read
        self._write = write
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
            credentials = await self._read(lambda of: of.users.credentials(username))
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

    async def _open(
        self, user_id: int, proven_hash: str | None, new_hash: str | None, user_agent: str | None, ip: str | None
    ) -> RefreshToken | None:
        """The first refresh token of a new session; None where the account is not as it was when it was looked at."""

        def store(to: Repositories) -> RefreshToken | None:
            user = to.users.find(user_id, for_update=True)
            if user is None or not user.is_active or user.password_hash != proven_hash:
                return None
            if new_hash is not None:
                user.password_hash = new_hash
            now = datetime.now(UTC)
            session = to.sessions.add(
                Session(
                    user_id=user_id,
                    created_at=now,
                    last_used_at=now,
                    expires_at=now + self._lifetime,
                    user_agent=user_agent[:LONGEST_USER_AGENT] if user_agent else None,
                    ip=ip[:LONGEST_ADDRESS] if ip else None,
                    family_hash="",
                    refresh_hash="",
                )
            )
            # The token has the session's number in it, which is known only now.
            token = RefreshToken.draw(session.id)
            session.family_hash, session.refresh_hash = token.family_hash, token.hash
            return token

        return await self._write(store)

    async def refresh(self, text: str, ip: str | None) -> Grant:
        """Replace a refresh token, and issue a new access token; raises SessionRevoked or TooManyAttempts.

        The token that was just replaced gets the same successor once more, for as long as GRACE. After that, or with
        an older one, somebody has a copy: the session is over, for all who have one.
        """
        try:
            token = RefreshToken.read(text)
        except NotARefreshToken:
            await self._refreshes.admit(ip)
            raise SessionRevoked from None
        # With the family, which nobody can make up: guesses at a session do not use up its owner's tries.
        await self._refreshes.admit(ip, f"{token.session_id} {token.family_hash}")
        session, successor = await self._write(lambda to: self._replace(to, token))
        # Raised and logged after the commit: an exception inside the transaction would bring the ended session back.
        if session is not None and successor is None:
            audit.log("refresh token reused", user_id=session.user_id, session_id=session.id, ip=ip)
        if session is None or successor is None:
            raise SessionRevoked
        return self._grant(session.user_id, successor)

    def _replace(self, to: Repositories, token: RefreshToken) -> tuple[Session | None, RefreshToken | None]:
        """The session of the token with the token's successor; without a successor the session is over."""
        session = to.sessions.find(token.session_id, for_update=True)
        if session is None or not hmac.compare_digest(session.family_hash, token.family_hash):
            return None, None
        now = datetime.now(UTC)
        user = to.users.find(session.user_id)
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
        to.sessions.remove(session)
        return session, None

    async def identify(self, access_token: str) -> Identity:
        """Whom the token stands for at this moment; raises InvalidToken, with the reason as its detail."""
        now = datetime.now(UTC)
        try:
            claims = self._tokens.read(access_token, now)
        except TokenRefused as refusal:
            raise InvalidToken(str(refusal)) from None
        user = await self._read(lambda of: of.sessions.find_user(claims.session_id, claims.user_id, now))
        if user is None:
            raise InvalidToken("The session of this token is over, or its account is deleted or disabled.")
        return Identity(user, claims.session_id, claims.expires_at)

    async def log_out(self, identity: Identity) -> None:
        """End the session of this token."""
        await self._write(lambda to: to.sessions.end(identity.session_id, identity.user.id))
        audit.log("logged out", user_id=identity.user.id, session_id=identity.session_id)

    async def log_out_everywhere(self, identity: Identity) -> None:
        """End all sessions of the account."""

        def end(to: Repositories) -> None:
            # Locked, so that two who do this at once do not wait for each other's rows.
            to.users.find(identity.user.id, for_update=True)
            to.sessions.end_all(identity.user.id)

        await self._write(end)
        audit.log("logged out everywhere", user_id=identity.user.id)

    async def list(self, identity: Identity) -> Sequence[Session]:
        """The account's sessions that go on, the newest first, up to MOST_LISTED."""
        return await self._read(lambda of: of.sessions.of_user(identity.user.id, datetime.now(UTC), MOST_LISTED))

    async def end(self, identity: Identity, session_id: int) -> None:
        """End one session of the account; raises SessionNotFound."""
        if not await self._write(lambda to: to.sessions.end(session_id, identity.user.id)):
            raise SessionNotFound
        audit.log("session ended", user_id=identity.user.id, session_id=session_id)

    async def prune(self) -> int:
        """Remove the sessions that have expired, a batch at a time; how many there were."""
        return await prune(self.remove_expired)

    async def remove_expired(self, limit: int) -> int:
        """Remove up to so many sessions that have expired, in one transaction; how many there were."""
        return await self._write(lambda to: to.sessions.remove_expired(datetime.now(UTC), limit))

    def _grant(self, user_id: int, token: RefreshToken) -> Grant:
        access_token = self._tokens.issue(user_id, token.session_id, datetime.now(UTC))
        return Grant(user_id, access_token, self._tokens.lifetime, token.write())
