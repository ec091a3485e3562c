#!/usr/bin/env bash
# Prints an SSLConfig for --ssl_config_file. It contains the PEM texts, not their paths.
set -euo pipefail

usage="usage: ${0##*/} SERVER_KEY SERVER_CERT [CLIENT_CA]; with CLIENT_CA, clients need a certificate that it signed"

fail() {
  echo "${0##*/}: $1" >&2
  exit 2
}

# field NAME FILE KIND: prints the file as a field in text format, with \n for each line end.
field() {
  [ -r "$2" ] || fail "$2 cannot be read"
  grep -Eq -- "^-----BEGIN $3-----" "$2" || fail "$2 is not a PEM file with a $3"
  awk -v name="$1" 'BEGIN { printf "%s: \"", name } { sub(/\r$/, ""); printf "%s\\n", $0 } END { print "\"" }' "$2"
}

[ $# -eq 2 ] || [ $# -eq 3 ] || fail "$usage"

key=$(field server_key "$1" "([A-Z]+ )?PRIVATE KEY")
certificate=$(field server_cert "$2" CERTIFICATE)
authority=""
[ $# -eq 2 ] || authority=$(field custom_ca "$3" CERTIFICATE)

printf '%s\n%s\n' "$key" "$certificate"
if [ -n "$authority" ]; then
  printf '%s\nclient_verify: true\n' "$authority"
fi
