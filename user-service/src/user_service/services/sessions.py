"""Sessions: created by logins, extended by refreshes, checked by every token validation."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from chassis.errors import InvalidToken
from chassis.use_cases import Service, Transactions, reads, writes
from user_service import audit
from user_service.errors import InvalidCredentials, RefreshTokenReused, SessionNotFound, SessionRevoked
from user_service.metrics import LOGINS, REFRESHES, SESSIONS_REVOKED, counts
from user_service.security.access_tokens import TokenRejected, Tokens
from user_service.security.networks import network, widest_network
from user_service.security.passwords import Passwords
from user_service.security.refresh_tokens import MalformedRefreshToken, RefreshToken
from user_service.security.throttling import Throttle
from user_service.services.session_pages import SessionPage, page_of_sessions
from user_service.usernames import username_key

if TYPE_CHECKING:
    from user_service.models import KnownNetwork, Session, User
    from user_service.repositories import Repositories
    from user_service.repositories.users import Credentials

GRACE = timedelta(seconds=10)
"""How long a replaced refresh token still returns its successor, for lost responses and concurrent tabs."""

MAX_LISTED_SESSIONS = 100
"""A script that logs in every minute has thousands of sessions."""


MAX_EXPORTED_SESSIONS = 10_000
"""A bound for the size of an export; `page` has the others."""


@dataclass(frozen=True)
class Client:
    """Where a request comes from; None for what is unknown."""

    ip: str | None
    user_agent: str | None


@dataclass(frozen=True)
class Identity:
    """The account and session of an access token, and when it was issued and expires."""

    user: User
    session_id: int
    issued_at: datetime
    expires_at: datetime

    @property
    def user_id(self) -> int:
        return self.user.id


@dataclass(frozen=True)
class Grant:
    """The tokens issued to an account by a login or a refresh."""

    user_id: int
    access_token: str
    lifetime: timedelta
    """Of the access token, which expires with its session at the latest."""
    refresh_token: str
    session_lifetime: timedelta


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
        *,
        max_lifetime: timedelta | None,
        max_sessions: int | None,
    ) -> None:
        """
        :param successor_keys: keys that successors of refresh tokens are derived with; the first is used for new ones
        :param lifetime: how long a session lasts after a login or refresh
        :param max_lifetime: how long a session lasts after its login at most; None for no limit
        :param max_sessions: active sessions of an account; None for no limit
        """
        super().__init__(transactions)
        self._passwords = passwords
        self._tokens = tokens
        self._successor_keys = successor_keys
        self._lifetime = lifetime
        self._logins = logins
        self._refreshes = refreshes
        self._max_lifetime = max_lifetime
        self._max_sessions = max_sessions

    @counts(LOGINS)
    async def log_in(self, username: str, password: str, client: Client) -> Grant:
        """Create a session.

        Raises InvalidCredentials, TooManyAttempts or PasswordsBusy. InvalidCredentials takes the same time for an
        unknown username, a wrong password and a disabled account.
        """
        async with self._logins.attempt(client.ip, username_key(username)) as attempt:
            while True:
                credentials = await self._find_credentials(username, network(client.ip))
                user_id = attempt.user_id = credentials.user_id
                is_stranger = not credentials.network_is_known
                if is_stranger:
                    await self._logins.slow_down(attempt)
                verification = await self._passwords.verify(
                    password, credentials.password_hash, stranger=is_stranger, client=widest_network(client.ip)
                )
                if user_id is None or not verification.matches or not credentials.is_active:
                    # The username is not logged: users sometimes type their password into that field.
                    audit.log("login refused", user_id=user_id, ip=client.ip)
                    raise InvalidCredentials
                new_hash = await self._passwords.hash(password) if verification.is_outdated else None
                created = await self._create_session(user_id, credentials.password_hash, new_hash, client)
                if created is not None:
                    break
        token, expires_at, revoked = created
        audit.log("logged in", user_id=user_id, session_id=token.session_id, ip=client.ip)
        SESSIONS_REVOKED.add(len(revoked), "too_many_sessions")
        for session_id in revoked:
            audit.log("session revoked", user_id=user_id, session_id=session_id)
        return self._grant(user_id, token, expires_at)

    @counts(REFRESHES)
    async def refresh(self, text: str, client: Client) -> Grant:
        """Replace a refresh token and issue a new access token; raises SessionRevoked or TooManyAttempts.

        Within GRACE, a token that was just replaced returns the same successor. Later reuse, use of an older token, or
        reuse by another client indicates a stolen copy and revokes the session.
        """
        token = await self._parse(text, client.ip)
        rotation = await self._rotate(token, client)
        if rotation is None:
            raise SessionRevoked
        session = rotation.session
        # Logged and raised after the commit: an exception inside the transaction would undo the revocation.
        if rotation.successor is None:
            audit.log("refresh token reused", user_id=session.user_id, session_id=session.id, ip=client.ip)
            SESSIONS_REVOKED.add(1, "refresh_token_reused")
            raise RefreshTokenReused
        audit.log(
            "session refreshed",
            user_id=session.user_id,
            session_id=session.id,
            ip=client.ip,
            new_address=rotation.has_new_address,
        )
        expires_at = self._limited(session.expires_at, session.created_at)
        return self._grant(session.user_id, rotation.successor, expires_at)

    async def identify(self, access_token: str) -> Identity:
        """Validate an access token; raises InvalidToken with the reason as its detail."""
        now = datetime.now(UTC)
        try:
            claims = self._tokens.verify(access_token, now)
        except TokenRejected as error:
            raise InvalidToken(str(error)) from None
        user = await self._find_user(claims.session_id, claims.user_id, now)
        if user is None:
            raise InvalidToken("The session was revoked or has expired, or the account is disabled or deleted.")
        return Identity(user, claims.session_id, claims.issued_at, claims.expires_at)

    async def log_out(self, identity: Identity) -> None:
        """Revoke the caller's session."""
        SESSIONS_REVOKED.add(await self._revoke(identity.session_id, identity.user_id), "logged_out")
        audit.log("logged out", user_id=identity.user_id, session_id=identity.session_id)

    async def log_out_with(self, refresh_token: str, ip: str | None) -> int:
        """Revoke the session of a refresh token, even of one that was replaced; returns the id of the account.

        Raises SessionRevoked or TooManyAttempts.
        """
        token = await self._parse(refresh_token, ip)
        user_id = await self._revoke_family(token)
        if user_id is None:
            raise SessionRevoked
        SESSIONS_REVOKED.add(1, "logged_out")
        audit.log("logged out", user_id=user_id, session_id=token.session_id)
        return user_id

    async def revoke_token(self, token: str, ip: str | None) -> None:
        """Revoke the session of an access token or a refresh token, if there is one; raises TooManyAttempts."""
        try:
            await self.log_out(await self.identify(token))
        except InvalidToken:
            with suppress(SessionRevoked):
                await self.log_out_with(token, ip)

    async def log_out_everywhere(self, identity: Identity) -> None:
        """Revoke all sessions of the caller's account."""
        SESSIONS_REVOKED.add(await self._revoke_all(identity.user_id), "logged_out_everywhere")
        audit.log("logged out everywhere", user_id=identity.user_id)

    @reads
    def page(self, repos: Repositories, identity: Identity, before: int | None, limit: int) -> SessionPage:
        """A page of the caller's active sessions; see `page_of_sessions`."""
        return page_of_sessions(repos, identity.user_id, identity.session_id, before, limit)

    async def export(self, identity: Identity, ip: str | None) -> tuple[Sequence[Session], Sequence[KnownNetwork]]:
        """The caller's active sessions, newest first, at most MAX_EXPORTED_SESSIONS, and the networks of logins."""
        exported = await self._list(identity.user_id)
        audit.log("account exported", user_id=identity.user_id, ip=ip)
        return exported

    async def revoke(self, identity: Identity, session_id: int) -> None:
        """Revoke one of the caller's sessions; raises SessionNotFound."""
        if not await self._revoke(session_id, identity.user_id):
            raise SessionNotFound
        SESSIONS_REVOKED.add(1, "revoked_by_user")
        audit.log("session revoked", user_id=identity.user_id, session_id=session_id)

    @writes
    def purge(self, repos: Repositories, limit: int) -> int:
        """Delete up to `limit` expired sessions, and as many unused networks; returns how many rows were deleted."""
        now = datetime.now(UTC)
        return repos.sessions.delete_expired(now, limit) + repos.known_networks.delete_expired(now, limit)

    async def learn_costs(self) -> None:
        """Find out the highest cost of the stored hashes, so that each failed login takes as long as the slowest.

        Without it, or for a hash that another process stores later, the first login with a costlier hash tells.
        """
        cost = await self._highest_cost()
        if cost is not None:
            self._passwords.expect(cost)

    async def _parse(self, text: str, ip: str | None) -> RefreshToken:
        """Parse a refresh token and count the attempt to use it; raises SessionRevoked or TooManyAttempts."""
        try:
            token = RefreshToken.parse(text)
        except MalformedRefreshToken:
            await self._refreshes.count(ip)
            raise SessionRevoked from None
        # Counted by family, which can't be guessed, so that guesses don't use up the attempts of the session's owner.
        await self._refreshes.count(ip, f"{token.session_id} {token.family_hash}")
        return token

    @reads
    def _list(self, repos: Repositories, user_id: int) -> tuple[Sequence[Session], Sequence[KnownNetwork]]:
        sessions = repos.sessions.list_active(user_id, datetime.now(UTC), MAX_EXPORTED_SESSIONS)
        return sessions, repos.known_networks.of(user_id)

    @reads
    def _find_credentials(self, repos: Repositories, username: str, network: str) -> Credentials:
        return repos.users.find_credentials(username, network)

    @reads
    def _highest_cost(self, repos: Repositories) -> int | None:
        return repos.users.highest_cost(self._passwords.higher_costs())

    @reads
    def _find_user(self, repos: Repositories, session_id: int, user_id: int, now: datetime) -> User | None:
        return repos.sessions.find_user(session_id, user_id, now)

    @writes
    def _create_session(
        self,
        repos: Repositories,
        user_id: int,
        verified_hash: str | None,
        new_hash: str | None,
        client: Client,
    ) -> tuple[RefreshToken, datetime, Sequence[int]] | None:
        """A new session: its first refresh token, its end, and the ids of the sessions that it revokes as the oldest.

        None if the account changed after its password was verified.
        """
        user = repos.users.find(user_id, for_update=True)
        if user is None or not user.is_active or user.password_hash != verified_hash:
            return None
        if new_hash is not None:
            user.password_hash = new_hash
        now = datetime.now(UTC)
        expires_at = self._limited(now + self._lifetime, now)
        session = repos.sessions.create(user_id, now, expires_at, client.user_agent, client.ip)
        repos.known_networks.remember(user_id, network(client.ip), now)
        # The token contains the session's id, which the insert assigns.
        token = RefreshToken.generate(session.id)
        session.family_hash, session.refresh_hash = token.family_hash, token.hash
        if self._max_sessions is None:
            return token, session.expires_at, []
        # Locking the account has made concurrent logins wait, so each of them counts the sessions of the others.
        return token, session.expires_at, repos.sessions.revoke_oldest(user_id, now, keep=self._max_sessions)

    @writes
    def _rotate(self, repos: Repositories, token: RefreshToken, client: Client) -> _Rotation | None:
        """Replace the token, or revoke its session if it is reused; None if the token is invalid."""
        session = repos.sessions.find(token.session_id, for_update=True)
        if session is None or not hmac.compare_digest(session.family_hash, token.family_hash):
            return None
        now = datetime.now(UTC)
        user = repos.users.find(session.user_id)
        # The lifetime may have been limited after the last refresh.
        expires_at = self._limited(session.expires_at, session.created_at)
        if expires_at <= now or user is None or not user.is_active:
            return None
        successors = token.successors(self._successor_keys)
        has_new_address = client.ip not in (session.ip, session.refresh_ip)
        if hmac.compare_digest(session.refresh_hash, token.hash):
            session.previous_hash, session.refresh_hash = token.hash, successors[0].hash
            session.refreshed_at = session.last_used_at = now
            session.refresh_ip, session.refresh_user_agent = client.ip, client.user_agent
            session.expires_at = self._limited(now + self._lifetime, session.created_at)
            return _Rotation(session, successors[0], has_new_address)
        was_just_replaced = hmac.compare_digest(session.previous_hash or "", token.hash)
        is_in_time = session.refreshed_at is not None and now - session.refreshed_at <= GRACE
        if was_just_replaced and is_in_time and _may_be_the_last_client(session, client):
            for successor in successors:
                if hmac.compare_digest(successor.hash, session.refresh_hash):
                    return _Rotation(session, successor, has_new_address)
        repos.sessions.delete(session)
        return _Rotation(session, None, has_new_address)

    @writes
    def _revoke(self, repos: Repositories, session_id: int, user_id: int) -> bool:
        return repos.sessions.revoke(session_id, user_id)

    @writes
    def _revoke_family(self, repos: Repositories, token: RefreshToken) -> int | None:
        """Revoke the session that the token belongs to; returns the id of its account, or None if there is none."""
        session = repos.sessions.find(token.session_id, for_update=True)
        if session is None or not hmac.compare_digest(session.family_hash, token.family_hash):
            return None
        repos.sessions.delete(session)
        return session.user_id

    @writes
    def _revoke_all(self, repos: Repositories, user_id: int) -> int:
        # Locks the account first, so that concurrent calls don't deadlock on session rows.
        repos.users.find(user_id, for_update=True)
        return repos.sessions.revoke_all(user_id)

    def _limited(self, expires_at: datetime, created_at: datetime) -> datetime:
        """The expiry of a session, or the end of its maximum lifetime if that is earlier."""
        return expires_at if self._max_lifetime is None else min(expires_at, created_at + self._max_lifetime)

    def _grant(self, user_id: int, token: RefreshToken, expires_at: datetime) -> Grant:
        """:param expires_at: the end of the session"""
        now = datetime.now(UTC)
        lifetime = min(self._tokens.lifetime, expires_at - now)
        access_token = self._tokens.issue(user_id, token.session_id, now, lifetime)
        return Grant(user_id, access_token, lifetime, token.format(), expires_at - now)


@dataclass(frozen=True)
class _Rotation:
    """What the use of a refresh token has led to."""

    session: Session
    successor: RefreshToken | None
    """None if reuse has revoked the session."""
    has_new_address: bool
    """Whether neither the login nor the last refresh came from the address."""


def _may_be_the_last_client(session: Session, client: Client) -> bool:
    """Whether the address or the user agent is that of the last refresh, or an address is unknown.

    A phone that loses a response because it changes networks tries again with another address, and a browser with
    IPv4 and IPv6 may too.
    """
    if client.ip is None or session.refresh_ip is None or client.ip == session.refresh_ip:
        return True
    return client.user_agent is not None and client.user_agent == session.refresh_user_agent
