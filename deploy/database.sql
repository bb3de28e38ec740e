-- What the PostgreSQL image runs in a new volume: the role and the database of a service. The role owns its database
-- and nothing else. The superuser loses its password, so it can connect inside the container only.
\getenv password POSTGRES_PASSWORD
CREATE ROLE service LOGIN PASSWORD :'password';
CREATE DATABASE service OWNER service;
ALTER ROLE postgres PASSWORD NULL;
