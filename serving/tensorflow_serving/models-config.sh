#!/usr/bin/env bash
# Writes kubernetes/base/config/models.config: the versions to load and their labels.
set -euo pipefail

usage="usage: ${0##*/} LABEL=VERSION [LABEL=VERSION…], for instance: ${0##*/} stable=1795341658 canary=1795345271"
config="$(cd "$(dirname "$0")" && pwd)/kubernetes/base/config/models.config"

fail() {
  echo "${0##*/}: $1" >&2
  exit 2
}

[ $# -gt 0 ] || fail "$usage"

versions=""
labels=""
for pair in "$@"; do
  [[ $pair =~ ^([a-z][a-z0-9_-]*)=([1-9][0-9]*)$ ]] || fail "\"$pair\" is not LABEL=VERSION; $usage"
  label=${BASH_REMATCH[1]}
  version=${BASH_REMATCH[2]}
  [[ $labels != *"\"$label\""* ]] || fail "label $label is given twice"
  # TensorFlow Serving does not move a label that is in use to a version that is not loaded.
  if grep -q "^[^#]*key: \"$label\"" "$config" && ! grep -qx " *versions: $version" "$config"; then
    fail "label $label is in use and version $version is not loaded yet: load it under another label first"
  fi
  [[ $versions == *": $version"$'\n'* ]] || versions+="        versions: $version"$'\n'
  labels+="    version_labels { key: \"$label\" value: $version }"$'\n'
done

# mv replaces the file in one step, so the poll never reads an incomplete file.
trap 'rm -f "$config.new"' EXIT
cat > "$config.new" <<END
# Written by: ${0##*/} $*
model_config_list {
  config {
    name: "mnist"
    base_path: "/models/mnist"
    model_platform: "tensorflow"
    model_version_policy {
      specific {
$versions      }
    }
$labels  }
}
END
mv "$config.new" "$config"
