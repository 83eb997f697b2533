#!/bin/sh
# Makes what is missing: the keys, and for each client that is named a key of its own, whose public half is left for Keycloak.
set -eu
exchange init
for client in "$@"; do
    exchange client key "$client" > "/var/lib/public-keys/$client.json"
done
