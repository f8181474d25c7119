#!/bin/bash
# For the postgres image's /docker-entrypoint-initdb.d: makes the two roles when the database is made, and leaves no other
# database to them, or to roles that come later.
set -euo pipefail
PGOPTIONS="-c parley.owner_password=$(</run/secrets/owner-password) -c parley.api_password=$(</run/secrets/api-password)" \
    psql --no-psqlrc -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --file /roles.sql \
    --command 'REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC'
