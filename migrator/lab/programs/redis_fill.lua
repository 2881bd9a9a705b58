-- redis-cli --eval redis_fill.lua SALT COUNT , : fill the keys; what each must hold follows from its name and a salt.
local salt, count = KEYS[1], tonumber(KEYS[2])
redis.call('SET', 'salt', salt)
for number = 1, count do
    local key = 'key:' .. number
    local value = redis.sha1hex(salt .. key)
    if number % 10 == 0 then
        redis.call('HSET', key, 'a', value, 'b', redis.sha1hex(value))
    else
        redis.call('SET', key, string.rep(value, 4))
    end
end
return redis.call('DBSIZE')
