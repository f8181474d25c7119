-- As Neon makes them. What it allows neon_superuser is left out but for what makes it dangerous for the API's role.
CREATE ROLE neon_superuser CREATEDB CREATEROLE BYPASSRLS REPLICATION NOLOGIN IN ROLE pg_read_all_data, pg_write_all_data;
CREATE ROLE neondb_owner LOGIN CREATEDB CREATEROLE BYPASSRLS REPLICATION IN ROLE neon_superuser;
\getenv password OWNER_PASSWORD
ALTER ROLE neondb_owner PASSWORD :'password';
CREATE DATABASE neondb OWNER neondb_owner;
\connect neondb
ALTER SCHEMA public OWNER TO neondb_owner;
GRANT ALL ON SCHEMA public TO neon_superuser;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO neon_superuser WITH GRANT OPTION;
