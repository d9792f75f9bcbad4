-- KEYS: the identity of a topic. ARGV[1]: the new one, JSON; ARGV[2]: its generation. A later generation stays.
local stored = redis.call('GET', KEYS[1])
if stored then
  local read, identity = pcall(cjson.decode, stored)
  if not read or type(identity) ~= 'table' or type(identity.generation) ~= 'number' then
    return redis.error_reply('BADIDENTITY the key holds something that is no identity')
  end
  if identity.generation > tonumber(ARGV[2]) then
    return 0
  end
end
redis.call('SET', KEYS[1], ARGV[1])
return 1
