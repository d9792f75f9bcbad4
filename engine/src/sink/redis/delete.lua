-- ARGV[3]: time to live of the tombstone, in seconds.
-- A document is deleted first, so that deletes get through to a server that is full: they are what makes room.
if redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('DEL', KEYS[1])
end
if marked then
  redis.call('SET', KEYS[2], version)
else
  redis.call('SET', KEYS[2], version, 'EX', ARGV[3])
end
return 1
