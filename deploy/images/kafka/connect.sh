#!/bin/bash
# A Kafka Connect worker, set up by the same variables as the official Debezium image.
set -euo pipefail
. /opt/kafka/properties.sh
json=org.apache.kafka.connect.json.JsonConverter
{
  echo "bootstrap.servers=${BOOTSTRAP_SERVERS:?}"
  echo "group.id=${GROUP_ID:?}"
  echo "config.storage.topic=${CONFIG_STORAGE_TOPIC:?}"
  echo "offset.storage.topic=${OFFSET_STORAGE_TOPIC:?}"
  echo "status.storage.topic=${STATUS_STORAGE_TOPIC:?}"
  echo "key.converter=${KEY_CONVERTER:-$json}"
  echo "value.converter=${VALUE_CONVERTER:-$json}"
  echo "listeners=http://0.0.0.0:8083"
  echo "rest.advertised.host.name=$(hostname -i | cut -d ' ' -f 1)"
  echo "plugin.path=/opt/kafka/plugins"
  echo "plugin.discovery=service_load"
  properties CONNECT
} >/opt/kafka/connect.properties
java_main ${HEAP_OPTS:--Xms256m -Xmx768m} org.apache.kafka.connect.cli.ConnectDistributed /opt/kafka/connect.properties
