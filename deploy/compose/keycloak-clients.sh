#!/usr/bin/env bash
# Tells the realm the public key of each client: keycloak-clients.sh ADDRESS FOLDER, with CLIENT.json (a JWKS) in the folder.
# The administrator's password is in KEYCLOAK_ADMIN_PASSWORD, the program kcadm.sh at KCADM. Nothing but bash is needed.
set -euo pipefail
kcadm() { "$KCADM" "$@" --config /tmp/kcadm.config; }

kcadm config credentials --server "$1" --realm master --user admin --password "$KEYCLOAK_ADMIN_PASSWORD"
for file in "$2"/*.json; do
    client=${file##*/}
    client=${client%.json}
    jwks=$(<"$file")
    jwks=${jwks//[$'\n\r\t']/}
    jwks=${jwks//\"/\\\"}
    id=$(kcadm get clients -r city -q "clientId=$client" --fields id --format csv --noquotes)
    [ -n "$id" ] || { echo "the realm has no client $client" >&2; exit 1; }
    kcadm update "clients/$id" -r city -s "attributes.\"jwks.string\"=\"$jwks\""
    echo "the realm knows the key of $client"
done
