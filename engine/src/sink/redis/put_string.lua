-- ARGV[3]: the document; where it expires, ARGV[4]: its time to live, ARGV[5]: its version's, in seconds.
-- The server looks at its memory limit before the first write of a script only, so that first write is the large one.
if ARGV[4] then
  redis.call('SET', KEYS[1], ARGV[3], 'EX', ARGV[4])
  if marked then
    redis.call('SET', KEYS[2], version)
  else
    redis.call('SET', KEYS[2], version, 'EX', ARGV[5])
  end
else
  redis.call('MSET', KEYS[1], ARGV[3], KEYS[2], version)
end
return 1
