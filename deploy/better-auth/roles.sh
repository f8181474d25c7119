#!/bin/bash
# For Compose: makes Better Auth's roles and schema in the stack's database, each time that the stack starts.
set -euo pipefail
export PGPASSWORD PGOPTIONS
PGPASSWORD=$(</run/secrets/superuser-password)
PGOPTIONS="-c parley.auth_password=$(</run/secrets/auth-password)"
PGOPTIONS+=" -c parley.reader_password=$(</run/secrets/reader-password)"
exec psql --no-psqlrc --quiet -v ON_ERROR_STOP=1 --host=postgres --username=postgres --dbname=parley --file=/roles.sql
