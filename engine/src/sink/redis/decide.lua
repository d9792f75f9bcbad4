-- The head of every script that writes a document: is the write newer than what the key holds?
-- KEYS: the document; its version. ARGV[1]: the new version; ARGV[2]: the smallest fence of its generation.
-- Fences are compared as text of 19 digits, because numbers are doubles here. docs/decisions/0003-redis-format.md has the positions.
-- Answers: 1 applied, 2 duplicate, 3 conflict, 4 stale; the stored version where it is of another partition.
-- Sets `version`, with the mark that it keeps, and `marked`: then it must not expire, as a tombstone does.
local version, marked = ARGV[1], false
local stored = redis.call('GET', KEYS[2])
if stored then
  if #stored < 57 or string.byte(stored, 20) ~= 32 or string.byte(stored, 56) ~= 32 then
    return redis.error_reply('BADVERSION the companion key holds something that is no version')
  end
  local was, is = string.sub(stored, 1, 19), string.sub(version, 1, 19)
  local mark = string.find(stored, ' ', 57, true)
  if was >= ARGV[2] and string.sub(stored, 57, (mark or 0) - 1) ~= string.sub(version, 57) then
    return stored
  end
  if was > is then
    return 4
  end
  if was == is then
    if string.sub(stored, 21, 38) == string.sub(version, 21, 38) then
      return 2
    end
    return 3
  end
  -- A dead letter that is newer than this write keeps its mark.
  if mark and string.sub(stored, mark + 1) > is then
    version, marked = version .. string.sub(stored, mark), true
  end
end
