# properties PREFIX: prints the properties that the environment's PREFIX_* variables stand for, named as the official images
# name them: one underscore is a dot, two are an underscore, three a hyphen.
properties() {
  env | sed -n "s/^$1_\([A-Z0-9_]*\)=.*/\1/p" | while read -r name; do
    case $name in HEAP_OPTS | OPTS | LOG4J_*) continue ;; esac
    key=$(tr '[:upper:]' '[:lower:]' <<<"$name" | sed 's/___/-/g; s/__/\x01/g; s/_/./g; s/\x01/_/g')
    variable=$1_$name
    echo "$key=${!variable}"
  done
}

java_main() { exec java -Dlog4j2.configurationFile=/opt/kafka/log4j2.yaml -cp '/opt/kafka/libs/*' "$@"; }
