-- redis-cli --eval redis_check.lua SALT COUNT , : look at every key; answers `ok COUNT` or says which key is wrong.
local salt, count = KEYS[1], tonumber(KEYS[2])
if redis.call('GET', 'salt') ~= salt then return 'wrong salt' end
if redis.call('DBSIZE') ~= count + 1 then return 'wrong number of keys: ' .. redis.call('DBSIZE') end
for number = 1, count do
    local key = 'key:' .. number
    local value = redis.sha1hex(salt .. key)
    if number % 10 == 0 then
        local held = redis.call('HMGET', key, 'a', 'b')
        if held[1] ~= value or held[2] ~= redis.sha1hex(value) then return 'wrong: ' .. key end
    elseif redis.call('GET', key) ~= string.rep(value, 4) then
        return 'wrong: ' .. key
    end
end
return 'ok ' .. count
