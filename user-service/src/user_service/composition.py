"""What the user service is made of, apart from HTTP: the command line does not need that."""

from pathlib import Path

from chassis import logs
from chassis.database.migrations import Migrations
from chassis.database.transactions import Database
from chassis.rate_limits import IN_MEMORY, RateLimits
from user_service.models import Base
from user_service.repositories import Repositories
from user_service.security.access_tokens import Tokens
from user_service.security.keys import signing_key
from user_service.security.passwords import Passwords
from user_service.security.throttling import Throttle
from user_service.services.accounts import Accounts
from user_service.services.administration import Administration
from user_service.services.sessions import Sessions
from user_service.settings import Settings


class Services:
    """The service layer with its dependencies, for the API and the command line."""

    def __init__(self, settings: Settings) -> None:
        self.database = Database.from_settings(settings, Repositories)
        self._passwords = Passwords(settings.bcrypt_cost, settings.password_queue_timeout)
        self._rate_limits = RateLimits(settings.rate_limit_storage_url)
        keys = [signing_key(settings.secret_key, settings.development_key_file)]
        keys += [key.encode() for key in settings.secret_keys_accepted]
        logins = Throttle(
            self._rate_limits,
            "login",
            settings.rate_limit_login,
            settings.rate_limit_login_address,
            suspicious=settings.rate_limit_login_account,
            queue_timeout=settings.password_queue_timeout,
        )
        registrations, refreshes = (
            Throttle(self._rate_limits, operation, per_account, per_address)
            for operation, per_account, per_address in (
                ("register", settings.rate_limit_register, settings.rate_limit_register_address),
                ("refresh", settings.rate_limit_refresh, settings.rate_limit_refresh_address),
            )
        )
        self.accounts = Accounts(
            self.database,
            self._passwords,
            registrations,
            logins,
            registration_open=settings.registration == "open",
            reserved_usernames=settings.reserved_usernames,
            password_min_length=settings.password_min_length,
            reject_common_passwords=settings.reject_common_passwords,
        )
        self.administration = Administration(self.database)
        self.sessions = Sessions(
            self.database,
            self._passwords,
            Tokens(keys, settings.access_token_lifetime, settings.clock_leeway),
            keys,
            settings.refresh_token_lifetime,
            logins,
            refreshes,
            max_lifetime=settings.session_max_lifetime,
            max_sessions=settings.max_sessions_per_user,
        )

    async def close(self) -> None:
        await self._rate_limits.close()
        self._passwords.close()
        self.database.close()


def migrations(settings: Settings) -> Migrations:
    return Migrations(Path(__file__).parent / "migrations", Base.metadata, settings.database_url)


def prepare(settings: Settings) -> None:
    """Run once before the workers start; raises OSError if the development key can't be saved."""
    signing_key(settings.secret_key, settings.development_key_file)
    if settings.workers > 1 and settings.rate_limit_storage_url == IN_MEMORY:
        logs.get("user_service.composition").warning(
            "each worker counts attempts separately: set RATE_LIMIT_STORAGE_URL", workers=settings.workers
        )
