-- KEYS: a watermark. ARGV[1]: the new one; the others: what it may replace, '' for nothing.
-- Answers 1, or what is there instead: then nothing was written.
local stored = redis.call('GET', KEYS[1])
for i = 2, #ARGV do
  if ARGV[i] == (stored or '') then
    redis.call('SET', KEYS[1], ARGV[1])
    return 1
  end
end
return stored
