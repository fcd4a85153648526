#!/usr/bin/env bash
# with_environment.sh FILE... -- COMMAND...: run a command with the variables of files.
#
# A file holds NAME=value lines. Everything behind the first = is the value as it stands: no quotes, no $, no escapes, as
# kubectl create secret --from-env-file and docker run --env-file read it. So one file serves machines and pods. Lines
# that are empty or begin with # are comments.
set -euo pipefail
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    number=0
    while IFS= read -r line || [ -n "$line" ]; do
        number=$((number + 1))
        line=${line%$'\r'}
        case $line in
            '' | '#'*) continue ;;
        esac
        if ! [[ $line =~ ^[A-Za-z_][A-Za-z0-9_]*= ]]; then
            echo "$1, line $number: expected NAME=value" >&2  # and not the line: it may hold a secret
            exit 2
        fi
        export "$line"
    done < "$1"
    shift
done
[ $# -ge 2 ] || { echo "usage: with_environment.sh FILE... -- COMMAND..." >&2; exit 2; }
shift
exec "$@"
