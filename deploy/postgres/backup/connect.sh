# For the two beside it: what libpq reads from the environment, out of DATABASE_MIGRATION_URL or the file that
# DATABASE_MIGRATION_URL_FILE names. On a command line the URL would be there for everybody to read, with its password.
url=${DATABASE_MIGRATION_URL:-}
[ -n "$url" ] || url=$(<"${DATABASE_MIGRATION_URL_FILE:?set it, or DATABASE_MIGRATION_URL, to the database owners}")

decode() { # TEXT: with %40 as @
    local text=${1//\\/\\\\}
    printf '%b' "${text//%/\\x}"
}

pattern='^postgres(ql)?(\+asyncpg)?://(([^:@/?]*)(:([^@]*))?@)?(\[[^]]*\]|[^]:/?@[]*)(:([0-9]+))?/([^?]*)(\?(.*))?$'
[[ $url =~ $pattern ]] || {
    echo 'DATABASE_MIGRATION_URL: must look like postgresql://user:password@host:5432/name' >&2
    exit 1
}
PGUSER=$(decode "${BASH_REMATCH[4]}")
PGPASSWORD=$(decode "${BASH_REMATCH[6]}")
PGHOST=${BASH_REMATCH[7]//[\[\]]/}
PGPORT=${BASH_REMATCH[9]:-5432}
PGDATABASE=$(decode "${BASH_REMATCH[10]}")
IFS='&' read -ra query <<<"${BASH_REMATCH[12]}"
for pair in "${query[@]}"; do
    case $pair in
    sslmode=*) export PGSSLMODE=${pair#*=} ;;
    sslrootcert=*) export PGSSLROOTCERT=${pair#*=} ;;
    channel_binding=*) export PGCHANNELBINDING=${pair#*=} ;;
    host=*) PGHOST=$(decode "${pair#*=}") ;;
    esac
done
export PGUSER PGPASSWORD PGHOST PGPORT PGDATABASE PGAPPNAME='parley backup' PGCONNECT_TIMEOUT=30
