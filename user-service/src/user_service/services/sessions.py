"""Sessions: opened by a login, kept going by refresh tokens, looked at by every validation of an access token."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from chassis.database import Unit
from chassis.errors import InvalidToken
from user_service.errors import InvalidCredentials, SessionNotFound, SessionRevoked
from user_service.models import Session, User
from user_service.models.sessions import LONGEST_ADDRESS, LONGEST_USER_AGENT
from user_service.passwords import Passwords
from user_service.refresh_tokens import NotARefreshToken, RefreshToken, RefreshTokens
from user_service.repositories import Repositories
from user_service.services import audit
from user_service.tokens import TokenRefused, Tokens

GRACE = timedelta(seconds=10)
"""How long the refresh token that was just replaced still gives its successor: for a lost answer, or a second tab."""


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
        refresh_tokens: RefreshTokens,
        lifetime: timedelta,
    ) -> None:
        """
        :param lifetime: of a session that is not refreshed; each refresh starts it anew
        """
        self._read = read
        self._write = write
        self._passwords = passwords
        self._tokens = tokens
        self._refresh_tokens = refresh_tokens
        self._lifetime = lifetime

    async def log_in(self, username: str, password: str, user_agent: str | None, ip: str | None) -> Grant:
        """Open a session.

        Raises InvalidCredentials, after the same time, for an unknown name, a wrong password and a disabled account.
        """
        user = await self._read(lambda of: of.users.find_by_username(username))
        verdict = await self._passwords.verify(password, user.password_hash if user else None)
        if user is None or not verdict.matches or not user.is_active:
            # The name is not logged: people type passwords into the wrong field.
            audit.log("login refused", user_id=user.id if user else None, ip=ip)
            raise InvalidCredentials
        proven = user
        new_hash = await self._passwords.hash(password) if verdict.is_outdated else None

        def open_session(to: Repositories) -> RefreshToken:
            locked = to.users.find(proven.id, for_update=True)
            if locked is None or not locked.is_active or locked.password_hash != proven.password_hash:
                raise InvalidCredentials
            if new_hash is not None:
                locked.password_hash = new_hash
            now = datetime.now(UTC)
            session = to.sessions.add(
                Session(
                    user_id=proven.id,
                    created_at=now,
                    last_used_at=now,
                    expires_at=now + self._lifetime,
                    user_agent=user_agent[:LONGEST_USER_AGENT] if user_agent else None,
                    ip=ip[:LONGEST_ADDRESS] if ip else None,
                    refresh_hash="",
                )
            )
            # The token has the session's number in it, which is known only now.
            token = self._refresh_tokens.first(session.id)
            session.refresh_hash = token.hash
            to.sessions.flush()
            return token

        token = await self._write(open_session)
        audit.log("logged in", user_id=proven.id, session_id=token.session_id, ip=ip)
        return self._grant(proven.id, token)

    async def refresh(self, text: str) -> Grant:
        """Replace a refresh token, and issue a new access token; raises SessionRevoked.

        The token that was just replaced gets the same successor once more, for as long as GRACE. After that, or with
        an older one, somebody has a copy: the session is over, for all who have one.
        """
        try:
            token = self._refresh_tokens.read(text)
        except NotARefreshToken:
            raise SessionRevoked from None
        outcome = await self._write(lambda to: self._replace(to, token))
        # Raised after the commit: an exception inside the transaction would bring the ended session back.
        if outcome is None:
            raise SessionRevoked
        return self._grant(*outcome)

    def _replace(self, to: Repositories, token: RefreshToken) -> tuple[int, RefreshToken] | None:
        session = to.sessions.find(token.session_id, for_update=True)
        now = datetime.now(UTC)
        user = to.users.find(session.user_id) if session else None
        if session is None or session.expires_at <= now or user is None or not user.is_active:
            return None
        successor = self._refresh_tokens.successor(token)
        if token.hash == session.refresh_hash:
            session.previous_hash, session.refresh_hash = token.hash, successor.hash
            session.refreshed_at = session.last_used_at = now
            session.expires_at = now + self._lifetime
            to.sessions.flush()
            return session.user_id, successor
        if token.hash == session.previous_hash and session.refreshed_at and now - session.refreshed_at <= GRACE:
            for each in self._refresh_tokens.successors(token):
                if each.hash == session.refresh_hash:
                    return session.user_id, each
        audit.log("refresh token reused", user_id=session.user_id, session_id=session.id)
        to.sessions.remove(session)
        return None

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
        await self._write(lambda to: to.sessions.end_all(identity.user.id))
        audit.log("logged out everywhere", user_id=identity.user.id)

    async def list(self, identity: Identity) -> Sequence[Session]:
        """The account's sessions that go on, the newest first."""
        return await self._read(lambda of: of.sessions.of_user(identity.user.id, datetime.now(UTC)))

    async def end(self, identity: Identity, session_id: int) -> None:
        """End one session of the account; raises SessionNotFound."""
        if not await self._write(lambda to: to.sessions.end(session_id, identity.user.id)):
            raise SessionNotFound
        audit.log("session ended", user_id=identity.user.id, session_id=session_id)

    def _grant(self, user_id: int, token: RefreshToken) -> Grant:
        access_token = self._tokens.issue(user_id, token.session_id, datetime.now(UTC))
        return Grant(user_id, access_token, self._tokens.lifetime, self._refresh_tokens.write(token))
