"""find-one.py DATABASE COLLECTION ID: prints one document as extended JSON; this image has no mongosh."""

import sys

from bson import json_util
from pymongo import MongoClient

database, collection, identity = sys.argv[1:]
print(json_util.dumps(MongoClient()[database][collection].find_one({"_id": json_util.loads(identity)})))
