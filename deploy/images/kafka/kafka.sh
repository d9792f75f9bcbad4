#!/bin/bash
# A KRaft broker, set up by the same variables as the official image: KAFKA_* and CLUSTER_ID.
set -euo pipefail
. /opt/kafka/properties.sh
properties KAFKA >/opt/kafka/server.properties
log_dirs=$(sed -n 's/^log.dirs=//p' /opt/kafka/server.properties)
if [ ! -e "${log_dirs:?KAFKA_LOG_DIRS is not set}/meta.properties" ]; then
  (java_main -XX:TieredStopAtLevel=1 kafka.tools.StorageTool format -t "${CLUSTER_ID:-5L6g3nShT-eMCtK--X86sw}" -c /opt/kafka/server.properties)
fi
java_main ${KAFKA_HEAP_OPTS:--Xms256m -Xmx512m} kafka.Kafka /opt/kafka/server.properties
