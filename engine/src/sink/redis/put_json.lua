-- ARGV[3]: the document; where it expires, ARGV[4]: its time to live, ARGV[5]: its version's, in seconds.
-- The document comes first: the module may refuse it, and then nothing has changed.
local done = redis.pcall('JSON.SET', KEYS[1], '$', ARGV[3])
if done.err and (string.find(done.err, 'WRONGTYPE', 1, true) or string.find(done.err, 'wrong Redis type', 1, true)) then
  -- The key holds another type and no version. The SET is there because a DEL alone is not held to the memory limit.
  redis.call('SET', KEYS[1], '')
  redis.call('DEL', KEYS[1])
  done = redis.pcall('JSON.SET', KEYS[1], '$', ARGV[3])
end
if done.err then
  local code = string.match(done.err, '^-?(%u+) ')
  if (code and code ~= 'ERR') or string.find(done.err, 'nknown', 1, true) then
    return done
  end
  return redis.error_reply('BADJSON the JSON module refuses the document')
end
if ARGV[4] then
  if marked then
    redis.call('SET', KEYS[2], version)
  else
    redis.call('SET', KEYS[2], version, 'EX', ARGV[5])
  end
  redis.call('EXPIRE', KEYS[1], ARGV[4])
else
  redis.call('SET', KEYS[2], version)
  redis.call('PERSIST', KEYS[1])
end
return 1
