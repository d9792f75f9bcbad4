-- ARGV[3]: time to live of the document, ARGV[4]: of its version, in seconds, or 0 for none; then a name and a value for each field.
-- The version is written first: a script that begins with DEL is not held to the server's memory limit.
if ARGV[3] == '0' or marked then
  redis.call('SET', KEYS[2], version)
else
  redis.call('SET', KEYS[2], version, 'EX', ARGV[4])
end
redis.call('DEL', KEYS[1])
for first = 5, #ARGV, 1000 do
  redis.call('HSET', KEYS[1], unpack(ARGV, first, math.min(first + 999, #ARGV)))
end
if ARGV[3] ~= '0' then
  redis.call('EXPIRE', KEYS[1], ARGV[3])
end
return 1
